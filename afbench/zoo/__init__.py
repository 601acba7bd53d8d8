"""The zoo: recipes that make organisms, their training data, and the command that builds them."""
