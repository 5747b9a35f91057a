"""Admission of requests: keys, rates, load."""
