"""What everything is called: configuration, store tables, API messages. Imports nothing else of tegakari."""
