"""Train rows → vocabularies, aggregates, interest and prior → Feast → training set."""
