"""A transparent, metering reverse proxy for the OpenAI API. This is the map of the house.

    __main__ > cli > app > gateway | admin | simulator > store | pricing > settings | metrics | log > core

core       pure: bytes and values in, values out. Metering, prices, quotas, keys, framing. No I/O, no clock.
pricing    where prices come from: the `genai-prices` catalogue and local overrides, compiled to integers.
store      Postgres, and the only importer of asyncpg. SQL lies in .sql files beside the module that runs it.
gateway    the data plane: the front, the pass, the relay and its upstream pool, live keys and quotas, the recorder.
admin      the control plane: admin API, /me, metrics and health, the dashboard. Writes rows; the gateway hears NOTIFY.
simulator  a simulated OpenAI for demo mode.
app        builds each object once, starts and stops them in order.
cli        what a person types.

The pass, one straight way for each request (gateway/handler.py):

    read -> authenticate -> admit -> forward, metering -> settle and record

A refusal before anything was sent is an error in OpenAI's shape. Every admitted exchange ends in exactly one record.
"""

__version__ = "0.1.0"
