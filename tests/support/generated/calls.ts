// Typed calls of the types that openapi-typescript generated; compiled with --strict, then run against a server.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type LabelFeature = components["schemas"]["LabelFeature"];

const [address, label] = process.argv.slice(2) as [string, string];
// Lists have other formats as well: this client reads JSON and problems.
const client = createClient<paths, `application/${string}json`>({ baseUrl: address });

function present<T>(result: { data?: T; error?: unknown }): T {
    if (result.data === undefined) throw new Error(JSON.stringify(result.error));
    return result.data;
}

const runs = present(await client.GET("/v1/runs"));
const names: (string | undefined)[] = runs.items.map((run) => run.run);
const run = "small";
const labels = present(await client.GET("/v1/runs/{run}/labels", { params: { path: { run } } }));
const features = present(
    await client.GET("/v1/runs/{run}/labels/{label}/features", {
        params: { path: { run, label }, query: { limit: 2, pooling: "max" } },
    }),
);
const strongest = features.items[0] as LabelFeature;
const d: number = strongest.cohens_d;
const dots = present(
    await client.GET("/v1/runs/{run}/labels/{label}", { params: { path: { run: "dots", label: "%2E%2E" } } }),
);
// Fields of requests that have a default can be left out.
const encoded = present(
    await client.POST("/v1/runs/{run}/encode", { params: { path: { run } }, body: { texts: ["軽トラ"], top: 1 } }),
);
const knockedOut = await client.POST("/v1/runs/{run}/knockouts", {
    params: { path: { run }, query: { wait: 60 } },
    body: { label, layer: 0, k: 1, draws: 0 },
});
const knockout = present(knockedOut);
const ended: boolean = knockout.result !== null && knockout.problem === null;
// Fields of responses are always there: null, but not undefined.
const feature = present(
    await client.GET("/v1/runs/{run}/layers/{layer}/features/{feature}", {
        params: { path: { run, layer: strongest.layer, feature: strongest.feature }, query: { pooling: "max" } },
    }),
);
const best: number | null = feature.labels.find((row) => row.label === label)!.cohens_d;
const rows = present(await client.POST("/v1/sql", { body: { sql: "SELECT 1 AS one" } }));
const truncated: boolean = rows.truncated;
const missing = await client.GET("/v1/runs/{run}", { params: { path: { run: "nothing" } } });
const problem: string = missing.error!.detail;
const csv = present(
    await client.GET("/v1/runs/{run}/labels", {
        params: { path: { run }, query: { format: "csv" } },
        parseAs: "text",
    }),
);
console.log(
    JSON.stringify({
        names, labels: labels.items.length, d, dots: dots.label, encoded: encoded.items.length,
        knockout: knockedOut.response.status, ended, best, truncated, problem, csv,
    }),
);
