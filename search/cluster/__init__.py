"""The machines: their capacity and health, Ray's session, jobs on a cluster's head."""
