"""The process that runs an application: decides, sends requests, keeps engines, writes the journal."""
