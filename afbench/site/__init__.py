"""The leaderboard as a static site: pages that read without JavaScript and load no other host.

content -> standing, matrices, marks -> views -> pages -> build
"""
