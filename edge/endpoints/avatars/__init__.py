"""Avatars: who is there, WHEP, their WebSocket, and what is said to them. Imported only where they are configured."""
