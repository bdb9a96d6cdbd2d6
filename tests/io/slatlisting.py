"""A second reader of the code file, written from docs/formats/slat.md alone: it lists the example there, field by field."""

import struct
import zlib


class Listing:
    def __init__(self, data):
        self.data, self.at, self.lines = data, 0, []

    def say(self, start, what):
        self.lines.append(f"{start:4d}  {self.data[start : self.at].hex(' '):<47}  {what}".rstrip())

    def fixed(self, layout, name):
        start, size = self.at, struct.calcsize("<" + layout)
        self.at += size
        values = struct.unpack_from("<" + layout, self.data, start)
        shown = f"{values[0]:g}" if isinstance(values[0], float) else values[0] if not isinstance(values[0], bytes) else ""
        self.say(start, f"{name} {shown}".rstrip())
        return values[0]

    def number(self, name, signed=False):
        start, value, place = self.at, 0, 0
        while True:
            byte = self.data[self.at]
            value |= (byte & 127) << place
            place, self.at = place + 7, self.at + 1
            if byte < 128:
                break
        if signed:
            value = value >> 1 if value % 2 == 0 else -(value >> 1) - 1
        self.say(start, f"{name} {value}")
        return value

    def text(self, name):
        start, length = self.at, self.data[self.at]  # short texts only: one byte of length
        self.at += 1 + length
        string = self.data[start + 1 : self.at].decode()
        self.say(start, f'{name} "{string}"')
        return string

    def chunk(self, length, name):
        start = self.at
        self.at += length
        for line in range(start, self.at, 16):
            end, self.at = self.at, min(self.at, line + 16)
            self.say(line, name if line == start else "")
            self.at = end
        crc = self.fixed("I", "  CRC-32 of the chunk")
        assert crc == zlib.crc32(self.data[start : start + length])

    def block(self):
        self.fixed("H", "version")
        self.fixed("H", "flags: 1, final layout; table not deflated:")
        self.text("codec")
        self.text("its version")
        self.at += 8
        self.say(self.at - 8, "digest of its weights")
        self.fixed("d", "the codec's rate in Hz")
        self.number("samples in a frame")
        hop, run = self.number("hop in frames"), self.number("segments in a chunk")
        levels, bits = self.number("levels stored"), self.number("bits of an index")
        for _ in range(self.number("sections")):
            kind = self.number("section of type")
            self.number("  level")
            self.number("  bytes after the end of the section before", signed=True)
            self.number(f"  its length (type {kind})")
        traces = self.number("traces")
        self.number("bytes of table")
        self.number("bytes it takes here")
        for i in range(self.number("strings")):
            self.text(f"  string {i}")
        for i in range(self.number("floats")):
            self.fixed("d", f"  float {i}:")
        found = []
        for t in range(traces):
            given = self.number(f"trace {t} has")
            for name in ("network", "station", "location", "code", "component", "dtype"):
                self.number(f"  {name}: string")
            if given & 2:
                self.number("  unit: string")
            for i in range(5):
                if given >> (2 + i) & 1:
                    self.number("  a coordinate: float")
            if given & 128:
                self.number("  more: string")
            self.number("  start, ns after the trace before (1970):", signed=True)
            self.number("  rate: float")
            self.number("  samples")
            frames = self.number("  frames")
            assert not given & 1, "the example has coded traces only"
            segments = max(1, (frames - 1) // hop)
            lengths = [hop + 1 if k + 1 < segments else frames - k * hop for k in range(segments)]
            runs = [lengths[k : k + run] for k in range(0, segments, run)]
            found.append([(r, self.number("  bytes of side information of a run")) for r in runs])
        return levels, bits, found

    def file(self):
        self.at = 8
        self.say(0, "magic")
        self.fixed("H", "version")
        self.fixed("H", "reserved")
        length = self.fixed("I", "length of the block")
        assert self.fixed("I", "first copy: length of the block") == length
        crc = self.fixed("I", "CRC-32 of the block")
        start = self.at
        assert crc == zlib.crc32(self.data[start : start + length])
        levels, bits, traces = self.block()
        assert self.at == start + length
        self.at += 8 + length
        assert self.data[self.at - 8 - length : self.at] == self.data[start - 8 : start + length]
        self.lines.append(f"{start + length:4d}  {'...':<47}  second copy: the same {8 + length} bytes")
        for t, runs in enumerate(traces):
            for r, (_, size) in enumerate(runs):
                self.chunk(size, f"side information, trace {t}, run {r}")
        for level in range(levels):
            for t, runs in enumerate(traces):
                for r, (lengths, _) in enumerate(runs):
                    self.chunk(-(-sum(lengths) * bits // 8), f"level {level + 1}, trace {t}, run {r}: {sum(lengths)} indices")
        assert self.at == len(self.data)
        return "\n".join(self.lines)
