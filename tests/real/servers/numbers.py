"""Counts aloud on each WebSocket, on the package `websockets`: python numbers.py PORT

What happens is said in lines on stdout; SIGTERM closes all in good form, with 1001, and ends the
program.
"""

import asyncio
import signal
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

sockets = 0


async def count(socket):
    global sockets
    sockets += 1
    print("sockets", sockets, flush=True)
    try:
        number = 0
        while True:
            await socket.send(str(number))
            number += 1
            await asyncio.sleep(0.01)
    except ConnectionClosed:
        pass
    finally:
        sockets -= 1
        print("sockets", sockets, flush=True)


async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(count, "0.0.0.0", int(sys.argv[1])):
        print("listening", flush=True)
        await stop.wait()


asyncio.run(main())
