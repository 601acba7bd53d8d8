"""Certification: is an organism what its manifest says, and is it whole?"""
