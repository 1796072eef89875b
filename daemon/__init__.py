"""The learning half: from the log store to a promoted model."""
