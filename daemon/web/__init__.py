"""The search API and, later, the dashboard."""
