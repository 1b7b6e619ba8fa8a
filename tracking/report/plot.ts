/** @file The plot of a comparison: metric against epsilon by arm, with intervals, as SVG by Vega-Lite. */

import * as vega from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';

export interface PlotPoint {
  /** `3`, `8`, `∞`. */
  epsilon: string;
  arm: string;
  mean: number;
  low: number;
  high: number;
}

export interface PlotLine {
  name: string;
  value: number;
}

export interface AccuracyPlot {
  /** Epsilons in the order of the axis. */
  epsilons: string[];
  /** Arms in the order of the legend. */
  arms: string[];
  /** Name of the metric, for the axis. */
  metric: string;
  points: PlotPoint[];
  /** Horizontal lines: majority class, ceiling. */
  lines: PlotLine[];
}

/** Mid tones with a contrast of 3:1 and more on white and on near-black; arms differ in shape as well. */
const colours = ['#3b7fc4', '#c2620c', '#2c8f63', '#a8559a', '#8a7a1f', '#c4475b'];
const shapes = ['circle', 'square', 'triangle-up', 'diamond', 'triangle-down', 'cross'];

/** SVG of width 640; text and rules take the colour of the page. */
export async function plotAccuracy(plot: AccuracyPlot): Promise<string> {
  const specification = compile(specificationOf(plot), { logger: silent }).spec;
  const view = new vega.View(vega.parse(specification), { renderer: 'none', logger: silent });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

function specificationOf({ epsilons, arms, metric, points, lines }: AccuracyPlot): TopLevelSpec {
  const x = {
    field: 'epsilon',
    type: 'ordinal',
    sort: epsilons,
    axis: { title: 'privacy loss ε (smaller is more private)', labelAngle: 0 },
  } as const;
  const xOffset = { field: 'arm', type: 'nominal', sort: arms } as const;
  const colour = {
    field: 'arm',
    type: 'nominal',
    scale: { domain: arms, range: arms.map((_, index) => colours[index % colours.length]!) },
    legend: { title: null, orient: 'top', symbolSize: 90, symbolOpacity: 1 },
  } as const;
  const values = points.filter(({ low, high }) => Number.isFinite(low) && Number.isFinite(high));
  const all = [
    ...points.flatMap(({ mean, low, high }) => [mean, low, high]),
    ...lines.map(({ value }) => value),
  ].filter(Number.isFinite);
  const margin = 0.05;
  const domain = [
    Math.max(0, floorTo(Math.min(...all) - margin, 0.05)),
    Math.min(1, ceilTo(Math.max(...all) + margin, 0.05)),
  ];
  const y = {
    type: 'quantitative',
    scale: { domain, zero: false, nice: false },
    axis: { title: metric, format: '.2f', tickCount: 6 },
  } as const;
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    width: 560,
    height: 320,
    autosize: { type: 'fit', contains: 'padding' },
    background: 'transparent',
    layer: [
      {
        data: { values: lines },
        mark: { type: 'rule', strokeDash: [5, 4], color: 'currentColor', opacity: 0.6 },
        encoding: { y: { field: 'value', ...y } },
      },
      {
        data: { values: lines },
        mark: { type: 'text', align: 'right', baseline: 'bottom', dy: -3, color: 'currentColor', opacity: 0.8 },
        encoding: { y: { field: 'value', ...y }, x: { value: 'width' }, text: { field: 'name' } },
      },
      {
        data: { values },
        mark: { type: 'errorbar', ticks: { width: 9, thickness: 2 }, rule: { strokeWidth: 2 } },
        encoding: { x, xOffset, y: { field: 'low', ...y }, y2: { field: 'high' }, color: colour },
      },
      {
        data: { values: points },
        mark: { type: 'point', filled: true, size: 45, opacity: 1 },
        encoding: {
          x,
          xOffset,
          y: { field: 'mean', ...y },
          color: colour,
          shape: {
            field: 'arm',
            type: 'nominal',
            scale: { domain: arms, range: arms.map((_, index) => shapes[index % shapes.length]!) },
            legend: { title: null, orient: 'top' },
          },
        },
      },
    ],
    config: {
      font: 'system-ui, sans-serif',
      view: { stroke: null },
      axis: {
        labelColor: 'currentColor',
        titleColor: 'currentColor',
        titleFontWeight: 'normal',
        domainColor: 'currentColor',
        tickColor: 'currentColor',
        gridColor: 'currentColor',
        gridOpacity: 0.15,
        labelFontSize: 12,
        titleFontSize: 12,
      },
      legend: { labelColor: 'currentColor', labelFontSize: 12 },
      text: { fontSize: 11 },
    },
  };
}

const floorTo = (value: number, step: number): number => Math.floor(value / step + 1e-9) * step;
const ceilTo = (value: number, step: number): number => Math.ceil(value / step - 1e-9) * step;

// Vega speaks to the console by itself otherwise.
const silent: vega.LoggerInterface = {
  level: ((value?: number) => (value === undefined ? 0 : silent)) as vega.LoggerInterface['level'],
  error: () => silent,
  warn: () => silent,
  info: () => silent,
  debug: () => silent,
};
