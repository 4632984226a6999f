"""Engine, transactions and migrations. Knows none of the features."""
