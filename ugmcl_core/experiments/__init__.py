"""The paper's tables and figures.

`paper` lists what the rows of each compare, `planning` turns that into trainings, `running` trains
and `scoring` measures them, `results` and `tables`, `curves` and `pictures` show what is there.
"""
