"""Models behind an API: prompted organisms on Anthropic's models, and on servers of open models.

Every answer is kept when it arrives and never asked for again; nothing is sent before its price was
approved. Importing this package imports no HTTP client.
"""
