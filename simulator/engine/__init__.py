"""The discrete-event simulation; the only importer of simpy."""
