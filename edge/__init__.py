"""The edge: the stream node that terminates SSE, WebSocket and WebRTC; the only public face."""
