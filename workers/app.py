"""The Celery application. Messages are hints, PostgreSQL knows what is to be done.

So a lost message costs one tick, a doubled one finds its work locked, and no
task's result is ever asked for.
"""

from __future__ import annotations

from celery import Celery
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown

from assistant import servers, traces
from assistant.config import settings
from assistant.log import configure

TICK_SECONDS, OUTCOMES_SECONDS = 2.0, 60.0
SYNC_SECONDS, UPKEEP_SECONDS = 900, 2 * 3600
"""a run whose process hangs in one slice, or in one whole reading, for longer is taken from it"""

TASKS = ("schedule", "sync", "ingest", "reembed", "tune")

app = Celery("deskhand", include=[f"workers.{name}" for name in TASKS])


def _configure() -> None:
    config = settings()
    app.conf.update(
        broker_url=servers.broker_url(config),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Redelivery after the death of a whole worker, see the Redis transport's options.
        broker_transport_options={
            "visibility_timeout": 300,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_keepalive": True,
        },
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_max_memory_per_child=config.worker_memory_mb * 1024,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        task_default_queue="sync",
        task_routes={
            "workers.ingest.*": {"queue": "ingest"},
            "workers.sync.upkeep": {"queue": "upkeep"},
            "workers.tune.*": {"queue": "tune"},
            "workers.reembed.*": {"queue": "upkeep"},
            "workers.schedule.*": {"queue": "tick"},
        },
        task_default_delivery_mode="transient",
        beat_schedule={
            # A tick that nobody took within its period is worth nothing.
            "tick": {
                "task": "workers.schedule.tick",
                "schedule": TICK_SECONDS,
                "options": {"expires": 10, "queue": "tick"},
            },
            # It looks at every draft, and nobody waits for it.
            "outcomes": {
                "task": "workers.schedule.outcomes",
                "schedule": OUTCOMES_SECONDS,
                "options": {"expires": OUTCOMES_SECONDS, "queue": "tick"},
            },
        },
        beat_schedule_filename=str(config.state / "beat.schedule"),
        beat_max_loop_interval=TICK_SECONDS,
        timezone="UTC",
    )


_configure()


@setup_logging.connect
def _logging(**_: object) -> None:
    configure(settings().log_level)


@worker_process_init.connect
def _fresh(**_: object) -> None:
    """Nothing opened before the fork may be used after it."""
    from workers import context

    context.reset()
    traces.configure(settings(), "worker")


@worker_process_shutdown.connect
def _last(**_: object) -> None:
    traces.flush()
