"""A sample worker: takes sync requests from RabbitMQ, counts records, reports how it went.

It shows how a worker fits the operator; it fetches nothing from anywhere.
"""
