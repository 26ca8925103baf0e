"""A question that is asked and answered by a signed link, and the status, all by the WSGI
application.
"""

import io
import json
import os
from urllib.parse import urlsplit
from wsgiref.util import setup_testing_defaults

from beside import PATIENCE, worker

from celery_durable.http import BearerTokens, Token, application
from shop import ask, durable

SECRET = "a-secret-of-twenty-four"


def answer(url, body=None, **headers):
    """Return the code and the body of the application's answer to a GET, or to a POST with
    a form.
    """
    codes = []
    environ = {
        "PATH_INFO": urlsplit(url).path,
        "REQUEST_METHOD": "GET" if body is None else "POST",
        **headers,
    }
    if body is not None:
        form = {
            "CONTENT_TYPE": "application/x-www-form-urlencoded",
            "CONTENT_LENGTH": str(len(body)),
        }
        environ |= {**form, "wsgi.input": io.BytesIO(body)}
    setup_testing_defaults(environ)
    text = b"".join(
        names["wsgi"](environ, lambda status, _: codes.append(int(status.split()[0])))
    ).decode()
    return codes[0], text


run = durable.start(ask.s(), instance_id="order-42")
tokens = BearerTokens(Token(SECRET, ["view", "view_payload"]))
os.environ["LINK_SECRET"] = SECRET
names = {"durable": durable}
exec(open("links.py").read(), names)
link = names["link"]

asked, page = answer(link)
assert "Ship order 42?" in page, page
answered, _ = answer(link, b"choice=0")
again, _ = answer(link, b"choice=0")
with worker("shop"):
    run.wait(timeout=PATIENCE)
names["wsgi"] = application(durable, tokens, prefix="/durable")  # the page opens the links alone
code, body = answer("/durable/instances/order-42", HTTP_AUTHORIZATION=f"Bearer {SECRET}")
assert code == 200, body
status = json.loads(body)
print(
    f"asked with {asked}, answered with {answered}, again with {again}; {status['runtimeStatus']}"
    f" with {status['output']}"
)
