"""WebRTC to viewers, by aiortc. Loaded only where avatars are configured and `edge.webrtc.enabled` is true."""
