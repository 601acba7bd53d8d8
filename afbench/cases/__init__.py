"""Cases: what a detector is shown, the labels it is scored by, and how fit and test are split."""
