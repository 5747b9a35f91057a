"""Tools for agents, by the Model Context Protocol (MCP): every call of a tool is a request to the REST API."""
