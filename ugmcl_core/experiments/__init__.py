"""The paper's tables and figures, each reproducible by one command.

`descriptions` says what differs between the rows of each, `planning` turns that into trainings,
`running` and `scoring` make their records, `statistics`, `tables` and `figures` show them.
"""
