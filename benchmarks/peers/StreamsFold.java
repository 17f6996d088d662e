import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Ten integer accumulators a symbol over a topic of stock trades, by Kafka Streams: an in-memory store with
 * a changelog and a cache, commits once a second. Reads `2 * half` records, ends, and prints one line of
 * JSON: wall seconds and CPU seconds of the process for each half, bytes of heap in use at the end.
 *
 * <p>Arguments: bootstrap servers, topic, application id, state folder, half.
 */
public final class StreamsFold {
    private static final String STORE = "accumulators";
    private static final Duration SETTLE = Duration.ofMillis(1500); // the last commit and its changelog
    private static final Duration PATIENCE = Duration.ofSeconds(240);

    private StreamsFold() {}

    public static void main(String[] arguments) throws InterruptedException {
        Meter meter = new Meter(Long.parseLong(arguments[4]));
        Topology topology = new Topology();
        topology.addSource("trades", new StringDeserializer(), new ByteArrayDeserializer(), arguments[1]);
        topology.addProcessor("fold", () -> new Fold(meter), "trades");
        topology.addStateStore(
                Stores.keyValueStoreBuilder(
                                Stores.inMemoryKeyValueStore(STORE), Serdes.String(), new LongsSerde())
                        .withCachingEnabled(),
                "fold");
        KafkaStreams streams = new KafkaStreams(topology, settings(arguments));
        streams.setUncaughtExceptionHandler(
                error -> {
                    error.printStackTrace();
                    Runtime.getRuntime().halt(1);
                    return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
                });
        streams.start();
        Reading[] readings = meter.readings(PATIENCE);
        if (readings == null) {
            System.err.println("only " + meter.done + " of " + 2 * meter.half + " records came");
            Runtime.getRuntime().halt(1);
        }
        Thread.sleep(SETTLE.toMillis());
        double settled = Reading.now().cpu();
        System.gc();
        long heap = ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed();
        // Nobody waits for this member then, when its group is deleted.
        CloseOptions leave =
                CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP);
        streams.close(leave.withTimeout(Duration.ofSeconds(30)));
        Reading start = readings[0];
        Reading middle = readings[1];
        Reading end = readings[2];
        System.out.printf(
                "{\"first\": {\"records\": %d, \"wall\": %.6f, \"cpu\": %.6f}, "
                        + "\"second\": {\"records\": %d, \"wall\": %.6f, \"cpu\": %.6f}, \"heap\": %d}%n",
                meter.half - 1, middle.wall() - start.wall(), middle.cpu() - start.cpu(),
                meter.half, end.wall() - middle.wall(), settled - middle.cpu(), heap);
    }

    private static Properties settings(String[] arguments) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[2]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, Path.of(arguments[3]).toString());
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 8 << 20);
        return settings;
    }

    /** The fold of one partition's trades. */
    private static final class Fold implements Processor<String, byte[], Void, Void> {
        private final Meter meter;
        private final Trade trade = new Trade();
        private KeyValueStore<String, long[]> store;

        Fold(Meter meter) {
            this.meter = meter;
        }

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            store = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<String, byte[]> record) {
            trade.read(record.value());
            long[] held = store.get(record.key());
            store.put(record.key(), Accumulators.add(held, trade));
            meter.count();
        }
    }

    /** The ten integers of a symbol; prices in 1/10,000 USD, notional in 1/1,000,000 USD, time in ns. */
    private static final class Accumulators {
        static final int TRADES = 0;
        static final int VOLUME = 1;
        static final int NOTIONAL = 2;
        static final int OPEN = 3;
        static final int LAST = 4;
        static final int HIGH = 5;
        static final int LOW = 6;
        static final int TS = 7;
        static final int SQUARES = 8; // of the steps between prices
        static final int ODD = 9; // trades of less than 100 shares
        static final int COUNT = 10;

        private Accumulators() {}

        static long[] add(long[] held, Trade trade) {
            long tick = (long) Math.rint(trade.price * 1e4);
            long[] values = held;
            if (values == null) {
                values = new long[COUNT];
                values[OPEN] = values[LAST] = values[HIGH] = values[LOW] = tick;
            }
            long step = tick - values[LAST];
            values[TRADES] += 1;
            values[VOLUME] += trade.size;
            values[NOTIONAL] += (long) Math.rint(trade.price * trade.size * 1e6);
            values[LAST] = tick;
            values[HIGH] = Math.max(values[HIGH], tick);
            values[LOW] = Math.min(values[LOW], tick);
            values[TS] = trade.ts;
            values[SQUARES] += step * step;
            values[ODD] += trade.size < 100 ? 1 : 0;
            return values;
        }
    }

    /** What is used of a stock_trade record: Confluent's header, then its fields in the schema's order. */
    private static final class Trade {
        private static final int HEADER = 5;
        long ts;
        double price;
        long size;

        void read(byte[] value) {
            ByteBuffer bytes = ByteBuffer.wrap(value).order(ByteOrder.LITTLE_ENDIAN);
            if (bytes.get() != 0) {
                throw new IllegalArgumentException("not in Confluent's wire format");
            }
            bytes.position(HEADER);
            skipText(bytes); // symbol: the key
            ts = readLong(bytes);
            readLong(bytes); // id
            skipText(bytes); // exchange
            price = bytes.getDouble();
            size = readLong(bytes); // the rest is not needed
        }

        private static void skipText(ByteBuffer bytes) {
            int length = (int) readLong(bytes);
            bytes.position(bytes.position() + length);
        }

        private static long readLong(ByteBuffer bytes) {
            long number = 0;
            int shift = 0;
            byte part;
            do {
                part = bytes.get();
                number |= (part & 0x7FL) << shift;
                shift += 7;
            } while (part < 0);
            return (number >>> 1) ^ -(number & 1);
        }
    }

    /** Accumulators as little-endian bytes. */
    private static final class LongsSerde implements Serde<long[]> {
        @Override
        public org.apache.kafka.common.serialization.Serializer<long[]> serializer() {
            return (topic, values) -> {
                if (values == null) {
                    return null;
                }
                byte[] bytes = new byte[Long.BYTES * values.length];
                ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asLongBuffer().put(values);
                return bytes;
            };
        }

        @Override
        public Deserializer<long[]> deserializer() {
            return (topic, bytes) -> {
                if (bytes == null) {
                    return null;
                }
                long[] values = new long[bytes.length / Long.BYTES];
                ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asLongBuffer().get(values);
                return values;
            };
        }
    }

    /** A moment: wall clock and CPU time of this process, in seconds. */
    private record Reading(double wall, double cpu) {
        private static final OperatingSystemMXBean SYSTEM =
                ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class);

        static Reading now() {
            return new Reading(System.nanoTime() / 1e9, SYSTEM.getProcessCpuTime() / 1e9);
        }
    }

    /** Reads the clocks after the first record, half of them and all; counted by one stream thread. */
    private static final class Meter {
        final long half;
        private final BlockingQueue<Reading> readings = new ArrayBlockingQueue<>(3);
        private volatile long done;

        Meter(long half) {
            this.half = half;
        }

        void count() {
            long now = done + 1; // one thread counts
            done = now;
            if (now == 1 || now == half || now == 2 * half) {
                readings.add(Reading.now());
            }
        }

        /** The three readings, once all records are counted; null: that takes too long. */
        Reading[] readings(Duration patience) throws InterruptedException {
            Reading[] found = new Reading[3];
            for (int n = 0; n < found.length; n++) {
                found[n] = readings.poll(patience.toMillis(), TimeUnit.MILLISECONDS);
                if (found[n] == null) {
                    return null;
                }
            }
            return found;
        }
    }
}
