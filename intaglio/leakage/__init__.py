"""``intaglio leakage``: defenses x attacks x labels x budgets x seeds, and what that comes to.

matrix      what is measured: a YAML file, validated
cells       every combination, each with the digest of all that decides its result
weights     what decides a victim's, and its digest
foreign_code  plug-ins and factories, the part of a digest that a name does not tell
kept        one file per finished cell, written whole or not at all
victims     weights by recipe, trained once per seed, or a bundle
bench       one defended server with everything that is done to it
runner      benches one after another, side by side, or on a Ray cluster
strongest   the table that matters: the strongest attack per defense and budget
verdict     in words: what does not beat label-only output
pictures    a heat map, and security against utility and latency
written     report.json, report.md, report.html
gate        a threshold that fails a release, and JUnit XML
"""
