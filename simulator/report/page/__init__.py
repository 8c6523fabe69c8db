"""The HTML page: sections of text, tables and plots, with styles, script and plotly.js inside one file."""
