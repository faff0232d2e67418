"""Reading the organisation's logs: lines, tails of growing files, and rows that fit a terminal."""
