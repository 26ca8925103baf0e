"""What an orchestrator's code must not call, and what to write instead: the one table of it.

``durable lint`` looks for these names in what is written, and ``durable_guard`` for what they name
while it runs.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "CALLED",
    "CALL_TASK",
    "EFFECT",
    "GIVEN",
    "GLOBAL",
    "HARMLESS",
    "MODULES",
    "SORT",
    "WITHOUT_ARGUMENTS",
]

CLOCK = "ask ctx.now()"
SLEEP = "await ctx.sleep(...)"
RANDOM = "use ctx.random"
UUID = "use ctx.uuid4()"
EFFECT = "do it in an activity, or a quick one by await ctx.run(...)"
THREAD = "await activities beside each other: asyncio.gather(ctx.call(...), ...)"
GIVEN = "pass it as an argument, or read it by await ctx.run(...)"
CALL_TASK = "await ctx.call(task.s(...))"
SORT = "sort it: its order differs between processes"
GLOBAL = "keep it in a local variable, or in an entity"

#: What must not be called, by the module and name that it has.
CALLED: Mapping[str, str] = {
    "time.time": CLOCK,
    "time.time_ns": CLOCK,
    "time.monotonic": CLOCK,
    "time.monotonic_ns": CLOCK,
    "time.perf_counter": CLOCK,
    "time.perf_counter_ns": CLOCK,
    "time.process_time": CLOCK,
    "time.process_time_ns": CLOCK,
    "time.clock_gettime": CLOCK,
    "time.localtime": CLOCK,
    "time.gmtime": CLOCK,
    "time.ctime": CLOCK,
    "time.sleep": SLEEP,
    "datetime.datetime.now": CLOCK,
    "datetime.datetime.utcnow": CLOCK,
    "datetime.datetime.today": CLOCK,
    "datetime.date.today": CLOCK,
    "django.utils.timezone.now": CLOCK,
    "django.utils.timezone.localdate": CLOCK,
    "django.utils.timezone.localtime": CLOCK,
    "django.utils.crypto.get_random_string": RANDOM,
    "uuid.uuid1": UUID,
    "uuid.uuid4": UUID,
    "uuid.getnode": GIVEN,
    "os.urandom": RANDOM,
    "os.getenv": GIVEN,
    "os.getpid": GIVEN,
    "os.getcwd": GIVEN,
    "os.listdir": EFFECT,
    "os.scandir": EFFECT,
    "os.walk": EFFECT,
    "os.stat": EFFECT,
    "os.remove": EFFECT,
    "os.unlink": EFFECT,
    "os.rename": EFFECT,
    "os.replace": EFFECT,
    "os.mkdir": EFFECT,
    "os.makedirs": EFFECT,
    "os.system": EFFECT,
    "os.popen": EFFECT,
    "os.open": EFFECT,
    "os.path.exists": EFFECT,
    "os.path.isfile": EFFECT,
    "os.path.isdir": EFFECT,
    "os.path.getsize": EFFECT,
    "os.path.getmtime": EFFECT,
    "socket.gethostname": GIVEN,
    "platform.node": GIVEN,
    "builtins.open": EFFECT,
    "builtins.input": EFFECT,
    "builtins.id": "use a value of your own: it differs between processes",
    "builtins.hash": "use hashlib: it differs between processes",
    "asyncio.to_thread": THREAD,
    "threading.Thread": THREAD,
    "threading.Timer": "await ctx.sleep(...) in a task: asyncio.create_task(...)",
    "concurrent.futures.ThreadPoolExecutor": THREAD,
    "concurrent.futures.ProcessPoolExecutor": THREAD,
    "celery.result.AsyncResult": CALL_TASK,
    "celery.result.GroupResult.restore": CALL_TASK,
    "multiprocessing.Process": THREAD,
    "multiprocessing.Pool": THREAD,
    "django.core.mail.send_mail": EFFECT,
    "django.core.mail.send_mass_mail": EFFECT,
    "django.core.mail.mail_admins": EFFECT,
    "django.core.mail.mail_managers": EFFECT,
    "django.shortcuts.get_object_or_404": EFFECT,
    "django.shortcuts.get_list_or_404": EFFECT,
}
#: Modules of which nothing may be called.
MODULES: Mapping[str, str] = {
    "random": RANDOM,
    "secrets": RANDOM,
    "requests": EFFECT,
    "httpx": EFFECT,
    "aiohttp": EFFECT,
    "urllib.request": EFFECT,
    "urllib3": EFFECT,
    "http.client": EFFECT,
    "ftplib": EFFECT,
    "smtplib": EFFECT,
    "subprocess": EFFECT,
    "socket": EFFECT,
    "sqlite3": EFFECT,
    "psycopg": EFFECT,
    "psycopg2": EFFECT,
    "pymysql": EFFECT,
    "MySQLdb": EFFECT,
    "pymongo": EFFECT,
    "redis": EFFECT,
    "elasticsearch": EFFECT,
    "boto3": EFFECT,
    "botocore": EFFECT,
    "stripe": EFFECT,
    "shutil": EFFECT,
    "tempfile": EFFECT,
    "glob": EFFECT,
    "django.db.transaction": EFFECT,
    "django.core.cache": EFFECT,
    "sqlalchemy.engine": EFFECT,
    "sqlalchemy.ext.asyncio": EFFECT,
    "sqlalchemy.orm.scoping": EFFECT,
    "sqlalchemy.orm.session": EFFECT,
}
#: What makes a value of a module that is named above, and does nothing else.
HARMLESS = frozenset(
    {
        "aiohttp.ClientTimeout",
        "httpx.Cookies",
        "httpx.Headers",
        "httpx.Limits",
        "httpx.QueryParams",
        "httpx.Request",
        "httpx.Response",
        "httpx.Timeout",
        "httpx.URL",
        "random.Random",
        "shutil.get_terminal_size",
        "socket.inet_aton",
        "socket.inet_ntoa",
        "socket.htons",
        "socket.ntohs",
        "sqlalchemy.engine.url.URL.create",
        "sqlalchemy.engine.url.make_url",
        "sqlite3.Row",
        "subprocess.list2cmdline",
        "secrets.compare_digest",
        "tempfile.gettempprefix",
    }
)
#: What tells the time only if it is given none.
WITHOUT_ARGUMENTS = frozenset(
    {
        "time.localtime",
        "time.gmtime",
        "time.ctime",
        "django.utils.timezone.localdate",
        "django.utils.timezone.localtime",
    }
)
