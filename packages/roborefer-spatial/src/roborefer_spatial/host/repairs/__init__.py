"""RoboRefer's known defects, and what is done about each in memory."""
