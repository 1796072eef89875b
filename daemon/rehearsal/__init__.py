"""Simulated searchers on labelled data: what a team would gain before it goes live."""
