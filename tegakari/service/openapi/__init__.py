"""The OpenAPI document: what Litestar describes, completed so that generators make working clients of it."""
