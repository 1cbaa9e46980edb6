"""The bare app: FastAPI parses the same JSON and sends it back, on uvicorn with the same loop and parser as ours: what the framework alone takes.
Twice: as its tutorial writes it, and (/raw) without its checks of what comes and goes, the least that a route can do."""
import sys

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

app = FastAPI()


@app.post("/")
async def echo(body: dict): return body


@app.post("/raw")
async def raw(request: Request): return JSONResponse(await request.json())


if __name__ == "__main__": uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, loop="uvloop", http="httptools")
