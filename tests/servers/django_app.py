"""The log as a Django app: a sync view for WSGI, an async view for ASGI."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from servers import PACE, chosen, entry
from sseclient_dual import SSEEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

settings.configure(ALLOWED_HOSTS=["127.0.0.1"], MIDDLEWARE=[], ROOT_URLCONF=__name__, SECRET_KEY="none")
live: set[HttpRequest] = set()


def log(request: HttpRequest) -> StreamingHttpResponse:
    def events() -> Iterator[bytes]:
        live.add(request)
        try:
            for number in asked_for(request):
                yield SSEEvent(*entry(number)).encode()
                time.sleep(PACE)
                yield b": ping\n\n"
        finally:
            live.discard(request)

    return StreamingHttpResponse(events(), content_type="text/event-stream")


async def async_log(request: HttpRequest) -> StreamingHttpResponse:
    async def events() -> AsyncIterator[bytes]:
        live.add(request)
        try:
            for number in asked_for(request):
                yield SSEEvent(*entry(number)).encode()
                await asyncio.sleep(PACE)
                yield b": ping\n\n"
        finally:
            live.discard(request)

    return StreamingHttpResponse(events(), content_type="text/event-stream; charset=utf-8")


def asked_for(request: HttpRequest) -> Iterator[int]:
    return chosen(request.headers.get("Last-Event-ID"), request.GET.get("count"))


def connections(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(live)))


urlpatterns = [path("log", log), path("async/log", async_log), path("connections", connections)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
