"""Parts that stand in the place of real ones, in the tests' own process."""
