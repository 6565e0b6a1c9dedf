"""The loops: offline, online, evaluation, and the seeds they run side by side."""
