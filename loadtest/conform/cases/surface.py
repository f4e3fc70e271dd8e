"""Surface: requests that cannot be served get a status that says why, in the shape that SDKs read."""

from __future__ import annotations

from loadtest.conform.case import Finding, case, deviation, failed, passed, skipped
from loadtest.conform.http import Answer, ProtocolError, Target, request
from loadtest.conform.judge import error_body, said
from loadtest.conform.rig import Rig

_SDK = "openai/openai-python (error classes)"


def _refused(answer: Answer, *good: int, also: tuple[int, ...] = ()) -> Finding:
    """Judge a refusal: `good` as required, `also` and a foreign shape as deviations."""
    told = said(answer)
    if answer.status in good:
        return passed(told) if error_body(answer) else deviation(f"no OpenAI error body: {told}")
    if answer.status in also:
        return deviation(told)
    return failed(told)


@case("bad-json", "surface", "A body that is no JSON is a 400 with an OpenAI error body.", _SDK, needs="gateway")
async def bad_json(rig: Rig) -> Finding:
    """Send half an object."""
    return _refused(await rig.exchange(request(rig.target, b'{"model": "x", "messages": [')), 400, also=(422,))


@case(
    "no-messages", "surface", "A request without messages is a 400 with an OpenAI error body.", _SDK, needs="gateway"
)
async def no_messages(rig: Rig) -> Finding:
    """Leave the messages out."""
    body = b'{"model": "%b"}' % rig.target.model.encode()
    return _refused(await rig.exchange(request(rig.target, body)), 400, also=(422,))


@case(
    "unknown-model",
    "surface",
    "An unknown model is a 404 with an OpenAI error body.",
    "vllm-project/production-stack (404 and 503)",
    needs="gateway",
)
async def unknown_model(rig: Rig) -> Finding:
    """Ask for a model that nobody has."""
    return _refused(await rig.ask(model="conform-no-such-model"), 404, also=(400, 403, 422))


@case("wrong-key", "surface", "A wrong key is a 401 with an OpenAI error body.", _SDK, needs="gateway")
async def wrong_key(rig: Rig) -> Finding:
    """Ask with a key that cannot be right."""
    if not rig.target.key:
        return skipped("the gateway was reached without a key; name one with --api-key-env")
    wrong = Target(rig.target.url, rig.target.model, "sk-conform-wrong")
    return _refused(await rig.exchange(request(wrong, rig.body())), 401, also=(403,))


@case(
    "wrong-method",
    "surface",
    "`GET` on the chat endpoint is a 405 that says what is allowed.",
    "RFC 9110 §15.5.6",
    needs="gateway",
    severity="should",
)
async def wrong_method(rig: Rig) -> Finding:
    """Send GET."""
    answer = await rig.exchange(request(rig.target, method="GET"))
    found = _refused(answer, 405, also=(404, 400))
    if answer.status == 405 and "allow" not in answer.headers:
        return deviation(f"no Allow: {said(answer)}")
    return found


@case("wrong-path", "surface", "A path that is not there is a 404.", _SDK, needs="gateway", severity="should")
async def wrong_path(rig: Rig) -> Finding:
    """Send to nowhere."""
    return _refused(await rig.exchange(request(rig.target, rig.body(), path="/v1/conform/nowhere")), 404, also=(405,))


@case(
    "too-large",
    "surface",
    "A body declared as 1 TiB is refused with 413 before it is sent.",
    "BerriAI/litellm#12685",
    "RFC 9110 §15.5.14",
    needs="gateway",
)
async def too_large(rig: Rig) -> Finding:
    """Declare a length that nobody can want, and send a little of it."""
    data = request(rig.target, headers={"Content-Length": str(1 << 40)}) + b'{"model": "x", '
    async with rig.channel() as channel:
        await channel.send(data)
        try:
            answer = await channel.rest(await channel.head())
        except TimeoutError:
            return deviation(f"waits for 1 TiB: no word within {rig.patience_s:g} s")
        except ProtocolError:
            return deviation("closed without a word")
    return _refused(answer, 413, also=(400, 431))


@case(
    "wrong-type",
    "surface",
    "A body that is not declared as JSON is a 415, which also keeps foreign web pages out.",
    "vllm-project/vllm (captured)",
    needs="gateway",
    severity="should",
)
async def wrong_type(rig: Rig) -> Finding:
    """Declare text/plain, as a web page can without asking."""
    answer = await rig.exchange(request(rig.target, rig.body(stream=False), headers={"Content-Type": "text/plain"}))
    return _refused(answer, 415, also=(200, 400, 422))


@case(
    "head",
    "surface",
    "`HEAD` brings no body, and the connection stays in step.",
    "RFC 9110 §9.3.2",
    needs="gateway",
    severity="should",
)
async def head(rig: Rig) -> Finding:
    """Send HEAD, then GET on the same connection."""
    async with rig.channel() as channel:
        await channel.send(request(rig.target, method="HEAD", path="/v1/models"))
        first = await channel.head()
        if first.headers.get("connection", "").lower() == "close":
            return passed(f"{first.status}, then closed")
        await channel.send(request(rig.target, method="GET", path="/v1/models"))
        try:
            second = await channel.rest(await channel.head())
        except ProtocolError as error:
            return failed(f"out of step after HEAD ({first.status}): {error}")
    if second.status >= 500 or not second.whole:
        return failed(f"after HEAD: {said(second)}")
    return passed(f"HEAD {first.status}, then GET {second.status}")


@case(
    "options",
    "surface",
    "`OPTIONS` is answered, and with no 5xx.",
    "Fetch standard (CORS preflight)",
    needs="gateway",
    severity="should",
)
async def options(rig: Rig) -> Finding:
    """Send a preflight."""
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    answer = await rig.exchange(request(rig.target, method="OPTIONS", headers=asked))
    return failed(said(answer)) if answer.status >= 500 or not answer.whole else passed(f"{answer.status}")
