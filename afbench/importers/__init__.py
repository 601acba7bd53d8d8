"""Importers: published data that a user has, turned into plug-in folders."""
