"""What runs in the container `monitor`: Python's standard library and cryptography, no more.

It looks after disks, backups, certificates and Prefect's answering, takes notifications from Prefect's automations, and
posts and mails them all. `scripts/status` judges by the same limits. See docs/alerts.md and docs/adr/0024.
"""
