"""Flows: records in, exchanges and connection totals out. The only stage that holds protocol state of a connection."""
