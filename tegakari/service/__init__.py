"""Online: the REST API over a store."""
