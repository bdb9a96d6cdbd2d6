"""A small FDSN data centre on loopback: event, station and dataselect, as far as our client asks, and every fault it may show."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from obspy import Stream, Trace, UTCDateTime
from obspy.core.event import Catalog, Event, Magnitude, Origin, ResourceIdentifier
from obspy.core.inventory import Channel, Inventory, Network, Response, Station
from obspy.geodetics import locations2degrees

RATE = 20.0


class Centre:
    """What it holds, what was asked of it, and what goes wrong next.

    `faults[service]` is a list of faults, one taken by each request; `always[service]` holds for all. A fault is a name below, or
    a function (handler, body) that answers by itself.
    """

    def __init__(self):
        self.events = []  # (id, UTCDateTime, latitude, longitude, depth_km, magnitude)
        self.stations = []  # (network, station, location, band, latitude, longitude)
        self.gone = set()  # ids without data
        self.faults = {"event": [], "station": [], "dataselect": []}
        self.always = {}
        self.asked = []  # (service, path, parameters or lines, when, headers)
        self.at_once = self.most_at_once = 0
        self.delay_s = 0.0
        self.most_lines = self.most_seconds = None
        self.lock = threading.Lock()

    def event(self, name, when, latitude, longitude, depth_km, magnitude):
        self.events.append((name, UTCDateTime(when), latitude, longitude, depth_km, magnitude))

    def station(self, network, station, latitude, longitude, location="", band="BH"):
        self.stations.append((network, station, location, band, latitude, longitude))

    def count(self):
        return Counter(service for service, *_ in self.asked)

    def lines(self):
        """Every line that dataselect was asked for, in order."""
        return [line for service, _, lines, *_ in self.asked if service == "dataselect" for line in lines]

    # answers ------------------------------------------------------------------------------------------------------------------

    def catalogue(self, q):
        start, end = UTCDateTime(q["starttime"]), UTCDateTime(q["endtime"])
        found = []
        for name, when, lat, lon, depth, size in self.events:
            inside = float(q.get("minlatitude", -90)) <= lat <= float(q.get("maxlatitude", 90))
            inside &= float(q.get("minlongitude", -180)) <= lon <= float(q.get("maxlongitude", 180))
            inside &= float(q.get("minmagnitude", -9)) <= size <= float(q.get("maxmagnitude", 11))
            if "maxradius" in q:
                far = locations2degrees(float(q["latitude"]), float(q["longitude"]), lat, lon)
                inside &= float(q.get("minradius", 0)) <= far <= float(q["maxradius"])
            if start <= when <= end and inside:
                origin = Origin(time=when, latitude=lat, longitude=lon, depth=depth * 1000)
                magnitude = Magnitude(mag=size, magnitude_type="Mww")
                found.append(Event(resource_id=ResourceIdentifier(f"smi:test/event/{name}"), origins=[origin],
                                   magnitudes=[magnitude], event_type="earthquake"))  # fmt: skip
        if not found:
            return None
        out = io.BytesIO()
        Catalog(found[: int(q.get("limit", 10**9))]).write(out, format="QUAKEML")
        return out.getvalue()

    def channel_text(self, q):
        bands = [code[:2] for code in q["channel"].split(",")]
        rows = ["#Network | Station | Location | Channel | Latitude | Longitude | Elevation | Depth | Azimuth | Dip"
                " | SensorDescription | Scale | ScaleFreq | ScaleUnits | SampleRate | StartTime | EndTime"]  # fmt: skip
        for network, station, location, band, lat, lon in self.stations:
            far = locations2degrees(float(q["latitude"]), float(q["longitude"]), lat, lon)
            if band in bands and float(q["minradius"]) <= far <= float(q["maxradius"]):
                rows += [
                    f"{network}|{station}|{location}|{band}{c}|{lat}|{lon}|10.0|0.0|{a}|{d}|STS-2|1e9|1.0|M/S|{RATE}|1990-01-01T00:00:00|"
                    for c, a, d in (("Z", 0.0, -90.0), ("N", 0.0, 0.0), ("E", 90.0, 0.0))
                ]
        return "\n".join(rows).encode() if len(rows) > 1 else None

    def station_xml(self, lines):
        asked = {tuple(line.split()[:2]) for line in lines}
        networks = {}
        for network, station, location, band, lat, lon in self.stations:
            if (network, station) in asked:
                channels = [
                    Channel(band + c, location, lat, lon, 10.0, 0.0, azimuth=a, dip=d, sample_rate=RATE, response=response(),
                            start_date=UTCDateTime(1990, 1, 1))
                    for c, a, d in (("Z", 0.0, -90.0), ("N", 0.0, 0.0), ("E", 90.0, 0.0))
                ]
                networks.setdefault(network, []).append(Station(station, lat, lon, 10.0, channels=channels))
        if not networks:
            return None
        out = io.BytesIO()
        Inventory([Network(code, stations=some) for code, some in networks.items()], source="test").write(out, format="STATIONXML")
        return out.getvalue()

    def waveforms(self, lines):
        stream = Stream()
        for line in lines:
            network, station, location, channel, start, end = line.split()
            location = "" if location == "--" else location
            held = any(s[:4] == (network, station, location, channel[:2]) for s in self.stations)
            if (network, station) in self.gone or not held:
                continue
            stream += trace(network, station, location, channel, UTCDateTime(start), UTCDateTime(end))
        if not stream:
            return None
        out = io.BytesIO()
        stream.write(out, format="MSEED", reclen=512, encoding="STEIM2")
        return out.getvalue()


def trace(network, station, location, channel, start, end):
    """Counts that are a function of absolute time and channel alone, on a grid that all requests share."""
    first = -(-start.ns * int(RATE) // 10**9)
    last = end.ns * int(RATE) // 10**9
    n = np.arange(first, last + 1)
    data = (1000 * np.sin(n * 0.05 + ord(channel[2])) + 500 * np.sin(n * 0.31)).astype(np.int32)
    header = {"network": network, "station": station, "location": location, "channel": channel, "sampling_rate": RATE}
    return Trace(data, {**header, "starttime": UTCDateTime(ns=first * 10**9 // int(RATE))})


def response():
    """A velocity sensor, flat above 0.01 Hz."""
    poles = [-0.037 + 0.037j, -0.037 - 0.037j]
    return Response.from_paz([0, 0], poles, 1e9, 1.0, "M/S", "COUNTS", 1.0)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.respond(dict(parse_qsl(urlsplit(self.path).query)))

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.respond([line for line in text.splitlines() if "=" not in line])

    def respond(self, asked):
        centre = self.server.centre
        service = self.path.split("/")[2]
        with centre.lock:
            centre.asked.append((service, self.path, asked, time.monotonic(), dict(self.headers)))
            centre.at_once += 1
            centre.most_at_once = max(centre.most_at_once, centre.at_once)
            fault = centre.faults[service].pop(0) if centre.faults[service] else centre.always.get(service)
        try:
            time.sleep(centre.delay_s)
            self.answer(centre, service, asked, fault)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with centre.lock:
                centre.at_once -= 1

    def answer(self, centre, service, asked, fault):
        if service == "event":
            body = centre.catalogue(asked)
        elif service == "station":
            body = centre.station_xml(asked) if isinstance(asked, list) else centre.channel_text(asked)
        else:
            long = max(UTCDateTime(line.split()[5]) - UTCDateTime(line.split()[4]) for line in asked)
            many = centre.most_lines is not None and len(asked) > centre.most_lines
            if many or (centre.most_seconds is not None and long > centre.most_seconds):
                return self.send(413)
            body = centre.waveforms(asked)
        if callable(fault):
            return fault(self, body, asked)
        if isinstance(fault, tuple):  # (status, headers)
            return self.send(fault[0], b"wait", fault[1])
        if fault is not None:
            return getattr(self, fault)(body)
        self.send(204 if body is None else 200, body or b"")

    def send(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if status != 204:
            self.wfile.write(body)
        self.close_connection = True

    def cut(self, body):
        """The connection ends in the middle of the body."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def cut_silently(self, body):
        """The same without a length: only the records tell. Not at the end of one."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2 + 100])
        self.close_connection = True

    def chunked(self, body, last=b"0\r\n\r\n"):
        """As most centres send: in chunks, without a length."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(body), 700):
            part = body[at : at + 700]
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.wfile.write(last)
        self.close_connection = True

    def chunks_cut(self, body):
        """The same, ending between two chunks, and at the end of a record: only the last chunk is missing."""
        self.chunked(body[: len(body) // 1024 * 512], last=b"")

    def silent(self, body):
        """No answer at all."""
        self.server.ended.wait(5)
        self.close_connection = True

    def drip(self, body):
        """A byte now and then, for ever."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        while not self.server.ended.wait(0.05):
            self.wfile.write(b"x")
            self.wfile.flush()

    def html(self, body):
        self.send(200, b"<!DOCTYPE html><html><body>Please sign in</body></html>")

    def log_message(self, *_):
        pass


@contextmanager
def serving():
    """`with serving() as (centre, url)`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    server.centre, server.ended = Centre(), threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.centre, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
