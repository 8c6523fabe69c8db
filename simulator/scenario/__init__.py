"""Scenario and topology files; the only importer of the YAML parser and pydantic."""
