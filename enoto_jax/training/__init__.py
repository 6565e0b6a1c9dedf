"""The loops: offline, online, evaluation, and the seeds that run side by side."""
