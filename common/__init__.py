"""What the three stages share: errors, files, progress and the command line."""
