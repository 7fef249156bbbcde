"""Other people's trainers and dashboards. Each module imports its library, and none is required."""
