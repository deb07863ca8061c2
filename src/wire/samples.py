"""A sample of each HTTP message, as JSON, for the OpenAPI pages: the first example of it in docs/protocol.md."""

from collections.abc import Mapping

import msgspec

from wire.errors import Problem
from wire.instruments import Instrument, ListedInstrument
from wire.orders import Fill, NumberedFill, Order, OrderResult, ReportedFill
from wire.positions import Position
from wire.quotes import Quote, QuoteRequest
from wire.references import PutReferences, ReferencesTaken
from wire.reservations import Exposure, Reservation, ReservationAnswer, ReservationRequest

SAMPLES: Mapping[type[msgspec.Struct], str] = {
    Instrument: (
        '{"tick":"0.01","reference_price":"231.50","quote_size":10,"gamma":"0.1","k":"20","a":"1","sigma":"0.3",'
        '"bid_size":null,"ask_size":null,"min_spread":0,"max_position":null,"max_loss":null,"multiplier":"1","fee_rate":"0",'
        '"reference_band":"0.1","reference_ttl":null,"state":"trading"}'
    ),
    ListedInstrument: (
        '{"tick":"0.01","reference_price":"231.50","quote_size":10,"gamma":"0.1","k":"20","a":"1","sigma":"0.3",'
        '"bid_size":null,"ask_size":null,"min_spread":0,"max_position":null,"max_loss":null,"multiplier":"1","fee_rate":"0",'
        '"reference_band":"0.1","reference_ttl":null,"state":"trading","symbol":"AAPL","revision":4711,"share":12,'
        '"reference":"231.52","reference_time":"2026-11-23T05:49:24.477000Z"}'
    ),
    PutReferences: '{"time":"2026-11-23T05:49:24.477259Z","prices":{"AAPL":"231.52","MSFT":"428.15"}}',
    ReferencesTaken: '{"symbols":2,"revision":4711}',
    Order: ('{"order_id":"mine-1","symbol":"AAPL","side":"buy","quantity":3,"limit_price":"1000.00"}'),
    OrderResult: (
        '{"order_id":"mine-1","symbol":"AAPL","status":"filled","filled_quantity":3,"leaves_quantity":0,'
        '"fills":[{"fill_id":"AAPL-f99","order_id":"mine-1","symbol":"AAPL","side":"buy","quantity":3,"price":"231.79",'
        '"quote_id":"AAPL-v98-r9-a1","created_at":"2026-11-23T05:49:24.465646Z"}],"reason":null}'
    ),
    QuoteRequest: (
        '{"quote_id":"by-hand-1","reservation_id":"by-hand-1-r","position_version":228,"revision":9,"attempt":1000,'
        '"bid_price":"230.00",'
        '"bid_quantity":5,"ask_price":"233.00","ask_quantity":5}'
    ),
    Quote: (
        '{"symbol":"AAPL","quote_id":"by-hand-1","reservation_id":"by-hand-1-r","position_version":228,"revision":9,'
        '"attempt":1000,'
        '"bid_price":"230.00","bid_quantity":5,"ask_price":"233.00","ask_quantity":5,"remaining_bid_quantity":5,'
        '"remaining_ask_quantity":5,"activated_at":"2026-11-23T05:50:20.428847Z","expires_at":"2026-11-23T05:50:50.351992Z"}'
    ),
    Fill: (
        '{"fill_id":"AAPL-f99","order_id":"mine-1","symbol":"AAPL","side":"buy","quantity":3,"price":"231.79",'
        '"quote_id":"AAPL-v98-r9-a1","created_at":"2026-11-23T05:49:24.465646Z"}'
    ),
    ReportedFill: (
        '{"fill_id":"venue-1","order_id":"o1","symbol":"AAPL","side":"buy","quantity":5,"price":"231.79",'
        '"quote_id":"elsewhere-1","created_at":"2026-11-23T05:49:24.465646Z","fee":"0.58"}'
    ),
    NumberedFill: (
        '{"fill_id":"AAPL-f99","order_id":"mine-1","symbol":"AAPL","side":"buy","quantity":3,"price":"231.79",'
        '"quote_id":"AAPL-v98-r9-a1","created_at":"2026-11-23T05:49:24.465646Z","number":99,"origin":"exchange",'
        '"multiplier":"1","fee":"0.139074"}'
    ),
    Position: (
        '{"symbol":"AAPL","net_quantity":-12,"position_version":99,"last_fill_id":"AAPL-f99",'
        '"updated_at":"2026-11-23T05:49:24.465646Z","cash":"2795.8","average_price":"231.775","realized":"14.5","fees":"2.2",'
        '"volume":402,"multiplier":"1"}'
    ),
    ReservationRequest: ('{"quote_id":"q-1","symbol":"AAPL","bid_quantity":5,"ask_quantity":200}'),
    ReservationAnswer: (
        '{"outcome":"reduced","reservation":{"reservation_id":"q-1-r","quote_id":"q-1","symbol":"AAPL",'
        '"reserved_bid_quantity":5,"reserved_ask_quantity":30,"state":"active","granted_at":"2026-11-23T05:49:24.712807Z",'
        '"activated_at":null,"expires_at":"2026-11-23T05:49:25.712807Z"},"reason":"ask_limit"}'
    ),
    Reservation: (
        '{"reservation_id":"by-hand-1-r","quote_id":"by-hand-1","symbol":"AAPL","reserved_bid_quantity":5,'
        '"reserved_ask_quantity":5,"state":"active","granted_at":"2026-11-23T05:50:20.351992Z","activated_at":null,'
        '"expires_at":"2026-11-23T05:50:21.351992Z"}'
    ),
    Exposure: (
        '{"limit":100,"bid":{"used":10,"free":90},"ask":{"used":7,"free":93},'
        '"reservations":[{"reservation_id":"AAPL-v98-r9-a1-r","quote_id":"AAPL-v98-r9-a1","symbol":"AAPL","reserved_bid_quantity":10,'
        '"reserved_ask_quantity":7,"state":"active","granted_at":"2026-11-23T05:49:23.933201Z",'
        '"activated_at":"2026-11-23T05:49:23.936815Z","expires_at":"2026-11-23T05:49:53.933201Z"}]}'
    ),
    Problem: (
        '{"type":"urn:quotestream:invalid-field","title":"A field has an invalid value","status":400,'
        '"detail":"`limit_price` must be a multiple of the tick 0.01","field":"limit_price"}'
    ),
}
