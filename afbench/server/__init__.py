"""The leaderboard's server: uploads, a queue, workers, and what came of each submission."""
