"""Running a stranger's detector without trusting it.

The detector's code runs in a process of its own, which sees no network, no file but its own folder
and the engine, and no label but those that its fit is given. It asks organisms through a versioned
protocol (`protocol`, `questions`); the handles themselves, with tier, budget and cue guard, stay in
the host (`host`, `answers`). What isolates that process is chosen in `choose`.

`child` and what it imports run inside; `host` and what it imports, outside.
"""
