"""The explorer: pages for people, made on the server, over the same queries as the API."""
