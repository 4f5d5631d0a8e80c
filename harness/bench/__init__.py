# SPDX-License-Identifier: GPL-2.0-only
"""Stage `bench`: what a request costs, and how many get through.

rows     what is measured, and the goals: data
server   a server as a command template
proof    which way the requests of a measured run went
measure  one measured run, in a guest or on the host
figures  measured values -> rows: medians, spreads, goals
identity what has to be the same for two figures to be comparable
gate     two runs compared
record   bench.json, whose format is described there
table, plot, profile: for people
command  the sub-commands
"""
