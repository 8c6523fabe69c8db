"""From event logs to data frames and figures of merit."""
